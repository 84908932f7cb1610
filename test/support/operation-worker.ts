import type { Operation } from 'accepted'
import { pino } from 'pino'
import type { Test } from 'tap'
import { v7 as uuid7 } from 'uuid'
import { createNotifier } from '../../src/db/notifier.ts'
import { noSeals } from '../../src/jobs/seals.ts'
import { Claims } from '../../src/queue/claims.ts'
import type { OperationWorker } from '../../worker/execution/operation-worker.ts'
import type { Handler } from '../../worker/handlers.ts'
import { createMetrics } from '../../worker/metrics.ts'
import type { Jobs } from './jobs.ts'

/** Creates the worker of one operation without its claim loop. The tests call the parts of the worker directly. */
export function createOperationWorker(
  t: Test,
  { database, boss }: Pick<Jobs, 'database' | 'boss'>,
  operation: Operation,
  handler: Handler = { perform: async () => {} },
): OperationWorker {
  const notifier = createNotifier(database)
  const workerId = uuid7()
  t.teardown(() => notifier.flush())
  return {
    operations: new Map([[operation.name, operation]]),
    ...{ operation, handler, database, boss, notifier, workerId },
    seals: noSeals,
    claims: new Claims(database, boss, operation, handler.perform && workerId),
    metrics: createMetrics(database, { operations: [], running: () => 0, isListening: () => false }),
    log: pino({ level: 'silent' }),
  }
}
