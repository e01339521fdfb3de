"""Testing a catalog, with neither Kafka nor a cluster: the laws of its views, and their answers over given events."""

from tideline.testing.answers import answers
from tideline.testing.laws import Outcome, check_views, file_events, made_up_events

__all__ = ["Outcome", "answers", "check_views", "file_events", "made_up_events"]
