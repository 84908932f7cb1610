import type { Operation } from 'accepted'
import { defineHandlers, type Handler, type Handlers } from 'accepted/worker'
import Type from 'typebox'
import { type CancelOutcome, cancelJob } from '../../src/jobs/cancel.ts'
import type { Jobs } from '../support/jobs.ts'
import { until } from '../support/until.ts'

/** The input and payload of most operations of these tests. */
export const Word = Type.Object({ word: Type.String() })

/** Defines the handlers of a worker that has one operation. */
export function handlersFor<O extends Operation>(operation: O, handler: NoInfer<Handler<O>>): Handlers {
  const record: { operation: Operation } = { operation }
  return defineHandlers(record, { [operation.name]: handler as unknown as Handler })
}

/** Cancels a job of `ann`, as the API does. */
export const cancel = ({ database }: Pick<Jobs, 'database'>, id: string): Promise<CancelOutcome> =>
  database.kysely.transaction().execute((trx) => cancelJob(trx, { id, principal: 'ann' }))

/** Waits until a job is running. */
export const untilRunning = (jobs: Jobs, id: string): Promise<boolean> =>
  until(async () => (await jobs.read(id)).status === 'running')

/** Finds the value of a series in metrics in the text format of Prometheus. Undefined if the series is missing. */
export function readSeries(metrics: string, series: string): number | undefined {
  const line = metrics.split('\n').find((one) => one.startsWith(`${series} `))
  return line === undefined ? undefined : Number(line.slice(series.length))
}
