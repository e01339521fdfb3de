"""The built-in shop's catalog: what people browse, put into carts and buy."""

from tideline import (
    ApproxDistinct,
    Count,
    CountBy,
    Last,
    Max,
    Mean,
    Quantiles,
    Source,
    Sum,
    TopK,
    View,
    days,
    minutes,
)
from tideline.simulate.shop import SCHEMA

shop = Source("shop", schema=SCHEMA, event_id="event_id", event_time="at")

sales = View(
    "sales",
    source=shop,
    columns={"amount": "quantity * price"},
    where="kind = 'purchase'",
    key="country",
    bucket=minutes(1),
    keep=days(30),
    measures={
        "orders": Count(),
        "units": Sum("quantity"),
        "revenue": Sum("amount"),
        "largest": Max("amount"),
        "amount": Quantiles("amount", at=[0.5, 0.95]),
    },
    answers={"per_order": "revenue / orders"},
)

products = View(
    "products",
    source=shop,
    key=["category", "product"],
    measures={
        "browsed": Count(where="kind = 'browse'"),
        "in_cart": Count(where="kind = 'cart'"),
        "bought": Sum("quantity", where="kind = 'purchase'"),
        "price": Last("price"),
        "mean_price": Mean("price"),
    },
    answers={"conversion": "bought / browsed"},
)

funnel = View(
    "funnel",
    source=shop,
    bucket=minutes(1),
    measures={
        "events": Count(),
        "by_kind": CountBy("kind"),
        "customers": ApproxDistinct("customer"),
        "best_sellers": TopK("product", k=5, weight="if(kind = 'purchase', quantity, 0)"),
    },
)
