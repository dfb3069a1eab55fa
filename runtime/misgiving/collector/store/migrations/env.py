"""What Alembic runs; the connection, and the lock, are those of ``migrating.py``."""

from alembic import context

from misgiving.collector.store.tables import TABLES

context.configure(connection=context.config.attributes["connection"], target_metadata=TABLES)
context.run_migrations()
