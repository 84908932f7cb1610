import { pathToFileURL } from 'node:url'
import { createKey } from '../../src/jobs/api-key.ts'
import type { AnyTransaction } from '../../src/operation.ts'
import { type Feature, noteWith } from '../app/features.ts'
import { withQueue } from '../core/our-queue.ts'
import type { Contender } from '../core/scenario.ts'
import { query } from '../core/server.ts'
import { accepted as drainOf } from './drain-accepted.ts'
import type { DrainLoad } from './drain-process.ts'
import { type HttpLoad, accepted as httpOf, type OpenLoad } from './http.ts'

/** A way to use Accepted whose cost is measured: something that the defaults do not do, or that can be left out. */
interface Usage {
  name: string
  feature?: Feature
  env?: NodeJS.ProcessEnv
  prepare?(url: string): Promise<{ env?: NodeJS.ProcessEnv; key?: string }>
  /** Whether it concerns jobs in the worker, too. Default: true. */
  drains?: boolean
  /** Whether it concerns requests. Default: true. */
  accepts?: boolean
}

const config = 'bench/app/features.config.ts'
const tracing = pathToFileURL(`${import.meta.dirname}/../app/tracing.ts`).href
const encryptionKeys = `bench:${Buffer.alloc(32, 1).toString('base64')}`

/** Lets the processes connect with the group role of the API or of the worker, not as the owner. */
const asRole = (group: string) => async (url: string) => {
  const name = `bench_${group}`
  await query(
    url,
    `do $$ begin create role ${name} login password 'bench' in role ${group}; exception when duplicate_object then null; end $$;
    grant select, insert, update on note, effect to ${group}`,
  )
  const own = new URL(url)
  own.username = name
  own.password = 'bench'
  return { env: { DATABASE_URL: own.href } }
}

const withKey = (url: string) =>
  withQueue(url, [noteWith()], async ({ database }) => {
    const create = (trx: unknown) => createKey(trx as AnyTransaction, { name: 'bench' })
    return { key: (await database.kysely.transaction().execute(create)).key }
  })

export const defaults: Usage = { name: 'defaults' }

const usages: readonly Usage[] = [
  { name: '`fair: false`', feature: 'unfair' },
  { name: '`abandon`', feature: 'abandon' },
  { name: '`limit`', feature: 'limit' },
  { name: '`maxBacklog`, `maxBacklogPerPrincipal`', feature: 'backlog', drains: false },
  { name: '`seal`', feature: 'seal', env: { ENCRYPTION_KEYS: encryptionKeys }, drains: false },
  { name: 'API key', prepare: withKey, drains: false },
  { name: 'no rate limit', env: { RATE_LIMIT: '0' }, drains: false },
  { name: 'role of the API', prepare: asRole('accepted_api'), drains: false },
  { name: 'role of the worker', prepare: asRole('accepted_worker'), accepts: false },
  { name: 'tracing', env: { NODE_OPTIONS: `--import=${tracing}` } },
]

const envOf = ({ feature, env }: Usage) => ({ ...env, ...(feature && { FEATURE: feature }) })

/** Contenders that accept requests. */
export const accepting: readonly Contender<HttpLoad | OpenLoad>[] = [defaults, ...usages]
  .filter(({ accepts = true }) => accepts)
  .map((usage) => httpOf(usage.name, { config, env: envOf(usage), ...(usage.prepare && { prepare: usage.prepare }) }))

/** Contenders that settle jobs. */
export const draining: readonly Contender<DrainLoad>[] = [defaults, ...usages]
  .filter(({ drains = true }) => drains)
  .map((usage) => {
    const options = { config, env: envOf(usage), ...(usage.prepare && { prepare: usage.prepare }) }
    return drainOf(usage.name, noteWith(usage.feature), options)
  })
