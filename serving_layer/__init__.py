"""The serving layer: merged answers with their proof, in Python, over HTTP, on a page. No JVM."""
