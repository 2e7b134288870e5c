"""How the lives of jobs are shown: text, picture, the JSON of tracing viewers. Each gets lives in order; none asks jobs."""
