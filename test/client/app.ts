import { createWorker, defineHandlers, type PerformingJob } from 'accepted/worker'
import type { FastifyInstance } from 'fastify'
import { pino } from 'pino'
import type { Test } from 'tap'
import { serve, type TestApi } from '../support/api.ts'
import { asRole } from '../support/database.ts'
import { until } from '../support/until.ts'
import * as operations from './operations.ts'

type Perform = (job: PerformingJob<typeof operations.steered>) => Promise<{ name: string }>

/** An API and a worker in this process. */
export interface App extends TestApi {
  /** Sets what the handler of the job `steered` with this name does. Without it, the job waits until the test ends. */
  perform(name: string, perform: Perform): void
  /** Counts the jobs of an operation. */
  count(operation: string): Promise<number>
}

export interface AppOptions {
  corsOrigins?: readonly string[]
  /** Adds routes of the host app. */
  prepare?: (app: FastifyInstance) => void
}

/** Requests with another value than this of the header `x-api-key` get 401. */
export const apiKey = 'secret'

/** Starts an API and a worker with a new database. */
export async function startApp(t: Test, { corsOrigins, prepare = () => {} }: AppOptions = {}): Promise<App> {
  const performs = new Map<string, Perform>()
  const api = await serve(
    t,
    {
      operations,
      authenticate: ({ headers }) => (headers['x-api-key'] === apiKey ? 'ann' : null),
      ...(corsOrigins && { corsOrigins }),
    },
    prepare,
  )
  const handlers = defineHandlers(operations, {
    'note.create': { settle: async () => {} },
    'words.count': {
      settle: async (_trx, jobs) =>
        jobs.map(({ payload: { text, language } }) => ({ words: text.split(' ').length, language })),
    },
    steered: {
      concurrency: 100,
      perform: async (job) => (await until(() => performs.get(job.payload.name)))(job),
    },
    idle: { settle: async () => {} },
  })
  const worker = await createWorker({
    ...{ handlers, log: pino({ level: 'silent' }), graceSeconds: 1 },
    operations: ['note.create', 'words.count', 'steered'],
    database: asRole(api.database.options.url, 'worker'),
  })
  t.teardown(() => worker.stop())
  return {
    ...api,
    perform: (name, perform) => void performs.set(name, perform),
    async count(operation) {
      const text = 'select count(*)::integer as count from accepted.job where operation = $1'
      return (await api.database.pool.query(text, [operation])).rows[0].count
    },
  }
}
