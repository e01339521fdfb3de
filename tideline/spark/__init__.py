"""What the two layers share on Spark: the session, reading Kafka, decoding, folding and merging states."""
