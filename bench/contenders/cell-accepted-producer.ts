// Enqueues jobs with idempotency keys through the public API of Accepted.
import { connect } from 'accepted'
import * as operations from '../app/cells/operations.ts'
import { serveProducer } from './cell-process.ts'

const byName = new Map(Object.values(operations).map((operation) => [operation.name, operation]))
type CellOperation = (typeof operations)[keyof typeof operations]

const accepted = await connect({ operations, database: process.env.DATABASE_URL as string })

serveProducer((queue, sequences) =>
  accepted.db.transaction().execute((trx) =>
    accepted.enqueueAll(
      trx,
      sequences.map((sequence) => ({
        operation: byName.get(queue) as CellOperation,
        payload: { sequence },
        key: String(sequence),
      })),
    ),
  ),
)
