"""Records of stages, kept on disk first and delivered to MLflow; training writes files alone.

``tracker`` follows a stage and writes ``journal``s, as ``description`` says, into ``outbox/``; ``mlflow/`` sends them.
"""
