"""The shop's views, and one whose answer can be checked by itself: each event is counted in one country."""

from tideline import Count, View
from tideline.simulate.shop_catalog import funnel, products, sales, shop

tally = View("tally", source=shop, key="country", measures={"n": Count()})

__all__ = ["funnel", "products", "sales", "shop", "tally"]
