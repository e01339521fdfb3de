"""A year of a web shop's invoice lines (UCI Online Retail, 541,909 rows).

    tideline up --catalog examples/retail.py
    tideline produce online_retail.csv.gz --source retail --row-id line_id
    tideline query revenue Country=France --window 1d

The file has no line id: `--row-id` numbers the rows, so that only a row sent twice is a repeat. A line whose
number starts with C cancels another and has a negative quantity; a quarter of the lines name no customer.
"""

from tideline import (
    ApproxDistinct,
    Count,
    CountBy,
    First,
    Last,
    Max,
    Mean,
    Min,
    Quantiles,
    Source,
    StdDev,
    Sum,
    TopK,
    Variance,
    View,
    days,
    hours,
)

retail = Source(
    "retail",
    schema="line_id string, InvoiceNo string, StockCode string, Description string, Quantity int, "
    "InvoiceDate timestamp, UnitPrice decimal(10,3), CustomerID string, Country string",
    event_id="line_id",
    event_time="InvoiceDate",
)

AMOUNT = "Quantity * UnitPrice"

revenue = View(
    "revenue",
    source=retail,
    columns={"amount": AMOUNT},
    key="Country",
    bucket=hours(1),
    measures={
        "lines": Count(),
        "returned": Count(where="Quantity < 0"),
        "revenue": Sum("amount", where="Quantity > 0"),
        "refunds": Sum("amount", where="Quantity < 0"),
        "customers": ApproxDistinct("CustomerID"),
        "amount": Quantiles("amount", at=[0.5, 0.95, 0.99], where="Quantity > 0"),
    },
    answers={"return_rate": "returned / lines", "per_line": "revenue / (lines - returned)"},
)

best_sellers = View(
    "best_sellers",
    source=retail,
    bucket=days(1),
    where="Quantity > 0 and UnitPrice > 0",
    measures={
        "by_units": TopK("StockCode", k=10, weight="Quantity"),
        "by_lines": TopK("StockCode", k=10),
        "units": Sum("Quantity"),
    },
)

reach = View(
    "reach",
    source=retail,
    key="Country",
    measures={
        "customers": ApproxDistinct("CustomerID"),
        "invoices": ApproxDistinct("InvoiceNo", lg_k=14),
        "products": ApproxDistinct("StockCode"),
        "anonymous": Count(where="CustomerID is null"),
        "lines": Count(),
    },
    answers={"anonymous_share": "anonymous / lines"},
)

line_amounts = View(
    "line_amounts",
    source=retail,
    columns={"amount": AMOUNT, "euros": f"cast({AMOUNT} as double) * 1.17D"},
    measures={
        "quantiles": Quantiles("amount", at=[0.01, 0.25, 0.5, 0.75, 0.99, 0.999]),
        "total": Sum("amount"),
        "euros": Sum("euros"),
        "mean": Mean("amount"),
        "variance": Variance("euros"),
        "deviation": StdDev("amount", population=True),
        "smallest": Min("amount"),
        "largest": Max("amount"),
    },
)

returns = View(
    "returns",
    source=retail,
    columns={
        "kind": "case when InvoiceNo like 'C%' then 'cancellation' when InvoiceNo like 'A%' then "
        "'adjustment' when UnitPrice = 0 then 'free' else 'sale' end",
    },
    key="Country",
    bucket=days(1),
    measures={
        "kinds": CountBy("kind"),
        "lines": Count(),
        "cancelled": Count(where="kind = 'cancellation'"),
        "mean_quantity": Mean("Quantity", where="kind = 'cancellation'"),
    },
    answers={"cancelled_share": "cancelled / lines"},
)

customers = View(
    "customers",
    source=retail,
    columns={"customer": "CustomerID"},
    key="customer",
    measures={
        "lines": Count(),
        "described": Count("Description"),
        "spent": Sum(AMOUNT),
        "first_purchase": Min("InvoiceDate"),
        "last_purchase": Max("InvoiceDate"),
        "first_product": First("StockCode"),
        "last_product": Last("Description"),
        "last_country": Last("Country"),
        "price": StdDev("UnitPrice"),
    },
)

rhythm = View(
    "rhythm",
    source=retail,
    columns={"weekday": "dayofweek(InvoiceDate)", "hour_of_day": "hour(InvoiceDate)"},
    key=("weekday", "hour_of_day", "Country"),
    where="InvoiceNo not like 'C%'",
    measures={
        "lines": Count(),
        "units": Sum("Quantity"),
        "price_per_unit": Mean("cast(UnitPrice as double)"),
        "largest": Max("Quantity"),
        "first_at": First("InvoiceDate"),
    },
)

recent = View(
    "recent",
    source=retail,
    bucket=hours(1),
    keep=days(90),
    measures={"lines": Count(), "revenue": Sum(AMOUNT), "countries": CountBy("Country")},
)
