"""How a trace is shown: text, picture, the JSON of tracing viewers, OpenTelemetry. Each gets spans; none knows sessions."""
