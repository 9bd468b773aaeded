"What everything else is made of: errors, stores, geometry, calendar, prices as numbers."
