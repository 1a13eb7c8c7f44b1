"""The trainer of an MLflow project.

Shipped inside the trainer's contents and run by the Python of the project's environment, 3.8 or later. It imports the
standard library and PyYAML only: importing mlflow takes seconds.
"""
