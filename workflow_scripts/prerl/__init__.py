"""Library of the PreRL/DSRL replication; the scripts beside it are thin and import it from their own folder."""
