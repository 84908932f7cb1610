"""Places an order, and enqueues its invoice in the same transaction. Prints the id of the job.

Usage: DATABASE_URL=postgres://... python3 invoice.py <customer> <total>
Needs psycopg 3. On Debian: apt install python3-psycopg
"""

import os
import sys

import psycopg
from psycopg.types.json import Jsonb

customer, total = sys.argv[1:]

# The transaction commits at the end of the block. An exception rolls it back.
with psycopg.connect(os.environ["DATABASE_URL"]) as connection:
    insert = "insert into orders (customer, total) values (%s, %s) returning id"
    (order_id,) = connection.execute(insert, (customer, total)).fetchone()
    enqueue = "select accepted.enqueue('invoice.create', %s, principal => %s, idempotency_key => %s)"
    payload = Jsonb({"orderId": order_id})
    (job_id,) = connection.execute(enqueue, (payload, customer, f"invoice-{order_id}")).fetchone()

print(job_id)
