"""The supervisor of one workload: a small process that outlives the server.

It stages inputs, makes the environment, runs the command, watches it, collects what it made and says so in
`status.json`. It imports no third-party package, so that a step that does nothing costs little.
"""
