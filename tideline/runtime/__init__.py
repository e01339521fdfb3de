"""What Tideline needs around it: jars, Java, an embedded Kafka broker, child processes, and a home folder."""
