import { type AbandonedJob, defineOperation, defineSchedule } from 'accepted'
import { type Generated, sql, type Transaction } from 'kysely'
import Type, { type Static } from 'typebox'

export interface Tables {
  domain: { job_id: string; token: string; state: Generated<string> }
  effect: { job_id: string; token: string }
  permission: { token: string }
  unawaited_write: { job_id: string }
  counter: { id: number; count: number }
}

/** One thing that a client wants done. */
const Intent = Type.Object({
  /** Identifies the intent. */
  token: Type.String(),
  /** Makes the request and its rows larger. */
  filler: Type.Optional(Type.String()),
  /** How long `perform` takes. */
  durationMs: Type.Optional(Type.Integer({ minimum: 0 })),
  /** In `grouped`, the number of concurrent jobs of a group is limited. */
  group: Type.Optional(Type.String()),
  /** How the handler of `unawaited` sends its statements. */
  statements: Type.Optional(
    Type.Enum(['awaited', 'concurrent', 'concurrent-always', 'unawaited', 'past-rollback', 'past-commit']),
  ),
  /** Where the handler of `blocking` blocks the event loop. */
  blockIn: Type.Optional(Type.Enum(['perform', 'settle'])),
  /** What the handler of `poisoned` does. */
  poison: Type.Optional(Type.Enum(['throw', 'reject-late', 'exit', 'loop', 'allocate'])),
})

// No fault may use up 30 attempts. A job that uses up 30 attempts has spent some of them wrongly.
const manyAttempts = { heartbeatSeconds: 10, retry: { limit: 30, delaySeconds: 0, backoff: false } }

/** Sets the state of the domain rows of jobs that end in the transaction. */
export async function setStates(
  trx: Transaction<Tables>,
  state: 'succeeded' | 'failed' | 'canceled',
  jobs: readonly { payload: { token: string } }[],
): Promise<void> {
  if (jobs.length === 0) return
  const tokens = jobs.map(({ payload }) => payload.token).toSorted()
  await trx.updateTable('domain').set({ state }).where('token', 'in', tokens).execute()
}

async function abandon(trx: Transaction<Tables>, jobs: AbandonedJob<Static<typeof Intent>>[]): Promise<void> {
  for (const status of ['failed', 'canceled'] as const) {
    await setStates(
      trx,
      status,
      jobs.filter((job) => job.status === status),
    )
  }
  // Some calls fail after their writes. These writes must be rolled back.
  if (process.env.ABANDON_FAILS && Math.random() < 0.2) throw new Error('abandon fails')
}

async function accept(
  trx: Transaction<Tables>,
  entries: readonly { id: string; input: Static<typeof Intent> }[],
): Promise<{ payload: Static<typeof Intent> }[]> {
  await trx
    .insertInto('domain')
    .values(entries.map(({ id, input }) => ({ job_id: id, token: input.token })))
    // The prepared plan becomes stale when a column is added.
    .returningAll()
    .execute()
  return entries.map(({ input }) => ({ payload: input }))
}

/** Writes an effect in `settle`, without `perform`. */
export const settled = defineOperation({
  name: 'intent.settle',
  route: { method: 'POST', url: '/settled' },
  input: Intent,
  ...manyAttempts,
  accept,
  abandon,
})

/** Works in `perform`, then writes an effect in `settle`. */
export const performed = defineOperation({
  name: 'intent.perform',
  route: { method: 'POST', url: '/performed' },
  input: Intent,
  ...manyAttempts,
  accept,
  abandon,
})

/** Updates rows in random order in `accept` and `settle`, so that transactions contend. */
export const contended = defineOperation({
  name: 'intent.contend',
  route: { method: 'POST', url: '/contended' },
  input: Intent,
  ...manyAttempts,
  accept: async (trx, entries) => {
    const accepted = await accept(trx, entries)
    await contend(trx)
    return accepted
  },
  abandon,
})

/** Its jobs fail, hang, or crash their worker. */
export const poisoned = defineOperation({
  name: 'intent.poison',
  route: { method: 'POST', url: '/poisoned' },
  input: Intent,
  heartbeatSeconds: 10,
  timeoutSeconds: 5,
  retry: { limit: 2, delaySeconds: 0, backoff: false },
  accept,
  abandon,
})

/** Limits how many jobs of a group run at once. */
export const grouped = defineOperation({
  name: 'intent.group',
  route: { method: 'POST', url: '/grouped' },
  input: Intent,
  ...manyAttempts,
  group: ({ group = '' }) => group,
  groupConcurrency: 2,
  accept,
  abandon,
})

/** Its `settle` does not await the statements that it sends. */
export const unawaited = defineOperation({
  name: 'intent.unawaited',
  route: { method: 'POST', url: '/unawaited' },
  input: Intent,
  heartbeatSeconds: 10,
  retry: { limit: 2, delaySeconds: 0, backoff: false },
  accept,
  abandon,
})

/** Blocks the event loop of one worker per phase. */
export const blocking = defineOperation({
  name: 'intent.block',
  route: { method: 'POST', url: '/blocking' },
  input: Intent,
  ...manyAttempts,
  accept,
  abandon,
})

/** Its job fails for good, unless the table `permission` holds the token of the intent. */
export const failing = defineOperation({
  name: 'intent.fail',
  route: { method: 'POST', url: '/failing' },
  input: Intent,
  ...manyAttempts,
  accept,
  abandon,
})

/**
 * Its `settle` enqueues children and a job that waits for the family. The token of each such job begins with the token of
 * the family and a slash.
 */
export const family = defineOperation({
  name: 'intent.family',
  route: { method: 'POST', url: '/families' },
  input: Intent,
  ...manyAttempts,
  accept,
  abandon,
})

/** A child of a family or a batch. Some members fail for good. */
export const member = defineOperation({ name: 'intent.member', input: Intent, ...manyAttempts, abandon })

/** The job that follows the end of a batch. */
export const ending = defineOperation({ name: 'intent.ending', input: Intent, ...manyAttempts })

/** Inserts the domain rows of jobs that no request has enqueued. */
export async function addDomainRows(
  trx: Transaction<Tables>,
  rows: readonly { job_id: string; token: string }[],
): Promise<void> {
  await trx.insertInto('domain').values(rows).execute()
}

/** Only the schedule creates its jobs. */
export const scheduledTick = defineOperation({ name: 'intent.tick', input: Intent, ...manyAttempts })

/** Returns the token of an occurrence. */
export const tokenOf = (at: Date): string => `tick ${at.toISOString()}`

/** A schedule that fires every second. It exists only if the row sets EVERY_SECOND. */
export const everySecond = process.env.EVERY_SECOND
  ? defineSchedule({
      name: 'every-second',
      rrule: 'FREQ=SECONDLY',
      operation: scheduledTick,
      payload: (at) => ({ token: tokenOf(at) }),
    })
  : undefined

/** Updates two of the three counters in random order, so that concurrent transactions sometimes deadlock. */
export async function contend(trx: Transaction<Tables>): Promise<void> {
  const first = 1 + Math.floor(Math.random() * 3)
  const second = 1 + ((first + Math.floor(Math.random() * 2)) % 3)
  for (const id of [first, second]) {
    await sql`update counter set count = count + 1 where id = ${id}`.execute(trx)
  }
}
