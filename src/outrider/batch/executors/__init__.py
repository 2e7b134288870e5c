"""`Route.executor`: an Executor of concurrent.futures, with a job for each call or warm workers inside one job."""
