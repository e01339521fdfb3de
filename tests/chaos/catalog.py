"""The shop's views, and one whose answer can be checked by itself: each event is counted in one country.

Ids are looked for 100,000 offsets back, so that the index of them is full within minutes: what grows after is a leak.
"""

from dataclasses import replace

from tideline import Count, View
from tideline.simulate import shop_catalog

shop = replace(shop_catalog.shop, horizon=100_000)
funnel, products, sales = (
    replace(view, source=shop) for view in (shop_catalog.funnel, shop_catalog.products, shop_catalog.sales)
)
tally = View("tally", source=shop, key="country", measures={"n": Count()})

__all__ = ["funnel", "products", "sales", "shop", "tally"]
