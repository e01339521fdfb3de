"""The first minutes: a catalog made from the user's own events, and a project around it."""
