"""The Yahoo streaming benchmark: views of ads by campaign and ten seconds (https://github.com/yahoo/streaming-benchmarks).

    tideline up --catalog examples/ysb.py
    tideline query campaigns campaign=7 --from 2026-01-01T00:00:00Z --to 2026-01-01T00:01:00Z

Of the events the views of an ad count; the others (click, purchase) are filtered out. The benchmark looks an ad's
campaign up in Redis. Here the map from ad to campaign is part of the definition: 100 campaigns of ten ads each, as an
array of campaigns by the ad's number, so that a changed map is another view, which is built anew beside the old one.
"""

from tideline import Count, Max, Source, View, seconds

CAMPAIGN_OF_AD = [ad // 10 for ad in range(1_000)]

events = Source(
    "ad_events",
    schema="user_id string, page_id string, ad_id int, ad_type string, event_type string, event_time timestamp, "
    "ip_address string",
    event_time="event_time",
    max_ahead=None,
)

campaigns = View(
    "campaigns",
    source=events,
    columns={"campaign": f"try_element_at(array({', '.join(map(str, CAMPAIGN_OF_AD))}), ad_id + 1)"},
    where="event_type = 'view'",
    key="campaign",
    bucket=seconds(10),
    measures={"views": Count(), "latest": Max("event_time")},
)
