"""Two queries of Nexmark, the benchmark of an auction house (https://github.com/nexmark/nexmark), over its bids.

    tideline up --catalog examples/nexmark.py
    tideline query q17 auction=1000 -o json
    tideline query q5 --window 10s --slide 2s --order=-bids --limit-by window:1

q17: how many bids on an auction were made a day, and at what price (nexmark-flink/src/main/resources/queries/q17.sql)?
q5: which auctions had the most bids in the last 10 seconds, every 2 seconds (q5.sql)? Its counts are kept for every two
seconds, and a query merges five of them; of auctions with equally many, `--limit-by` shows the first.
"""

from tideline import Count, Max, Mean, Min, Source, Sum, View, days, seconds

bids = Source(
    "bids",
    schema="auction bigint, bidder bigint, price bigint, channel string, url string, dateTime timestamp, extra string",
    event_time="dateTime",
    max_ahead=None,
)

q17 = View(
    "q17",
    source=bids,
    key="auction",
    bucket=days(1),
    measures={
        "total_bids": Count(),
        "rank1_bids": Count(where="price < 10000"),
        "rank2_bids": Count(where="price >= 10000 and price < 1000000"),
        "rank3_bids": Count(where="price >= 1000000"),
        "min_price": Min("price"),
        "max_price": Max("price"),
        "avg_price": Mean("price"),
        "sum_price": Sum("price"),
    },
)

q5 = View("q5", source=bids, key="auction", bucket=seconds(2), measures={"bids": Count()})
