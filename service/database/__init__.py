"""The Postgres that everything is kept in: pool, natural batches, named SQL, migrations, leases, an embedded server."""
