"""What all tables of transactions belong to."""

from __future__ import annotations

import sqlalchemy as sa

from services.chassis.data import heard_persons
from services.chassis.data import tables as chassis_tables

metadata = sa.MetaData()
chassis_tables.attach(metadata)
heard_persons.attach(metadata)
