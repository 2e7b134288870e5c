"""Jobs as people look at them: timelines as text, picture or the JSON of tracing viewers; and HTML for notebooks."""
