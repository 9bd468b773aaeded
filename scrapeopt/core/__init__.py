"""What everything else is made of: errors, stores, geometry, calendar, prices as numbers.

Two of these pages belong to chapters: bit planes count what the chapter on overlap defines, fingerprints come after
both.
"""
