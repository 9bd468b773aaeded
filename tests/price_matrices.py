"""Price matrices for properties: few distinct prices, so that some are equal, and the corners of a price."""
import numpy as np
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from scrapeopt.core.prices import NOT_SOLD

INT32_MAX = np.iinfo(np.int32).max
PRICE = st.one_of(st.just(NOT_SOLD), st.integers(0, 3), st.sampled_from([INT32_MAX - 1, INT32_MAX]))


@st.composite
def matrices(draw, min_side=0):
    "Price matrices with few distinct prices, the int32 limit, and rows that sell nothing."
    shape = draw(array_shapes(min_dims=2, max_dims=2, min_side=min_side, max_side=40))
    prices = draw(arrays(np.int32, shape, elements=PRICE, fill=PRICE))
    prices[draw(st.lists(st.integers(0, shape[0] - 1), max_size=3)) if shape[0] else []] = NOT_SOLD
    return prices
