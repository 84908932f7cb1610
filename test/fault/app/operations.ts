import { defineOperation, defineSchedule } from 'accepted'
import type { Transaction } from 'kysely'
import { sql } from 'kysely'
import Type, { type Static } from 'typebox'

export interface Tables {
  domain: { job_id: string; token: string }
  effect: { job_id: string; token: string }
  permission: { token: string }
  stray: { job_id: string }
  counter: { id: number; count: number }
}

/** What a client asks for; the token is its name of the intent. */
const Intent = Type.Object({
  token: Type.String(),
  /** Makes it longer. */
  filler: Type.Optional(Type.String()),
  /** How long perform takes, in milliseconds. */
  takes: Type.Optional(Type.Integer({ minimum: 0 })),
  /** Which others it shares its turns with. */
  group: Type.Optional(Type.String()),
  /** How a careless handler sends its statements. */
  careless: Type.Optional(
    Type.Enum(['not', 'together', 'together-always', 'unawaited', 'past-rollback', 'past-commit']),
  ),
  /** Where its handler keeps the event loop busy. */
  hog: Type.Optional(Type.Enum(['perform', 'settle'])),
  /** How a poison job ends its attempt. */
  poison: Type.Optional(Type.Enum(['throw', 'reject-late', 'exit', 'loop', 'allocate'])),
})

// So many attempts that what runs out of them has been charged what is not its fault.
const patient = { heartbeatSeconds: 10, retry: { limit: 30, delaySeconds: 0, backoff: false } }

async function accept(
  trx: Transaction<Tables>,
  entries: readonly { id: string; input: Static<typeof Intent> }[],
): Promise<{ payload: Static<typeof Intent> }[]> {
  await trx
    .insertInto('domain')
    .values(entries.map(({ id, input }) => ({ job_id: id, token: input.token })))
    .execute()
  return entries.map(({ input }) => ({ payload: input }))
}

/** Database effects only. */
export const settled = defineOperation({
  name: 'intent.settle',
  route: { method: 'POST', url: '/settled' },
  input: Intent,
  ...patient,
  accept,
})

/** Slow work, and then the effect. */
export const performed = defineOperation({
  name: 'intent.perform',
  route: { method: 'POST', url: '/performed' },
  input: Intent,
  ...patient,
  accept,
})

/** Changes two rows that others change in the other order, in accept and in settle. */
export const contended = defineOperation({
  name: 'intent.contend',
  route: { method: 'POST', url: '/contended' },
  input: Intent,
  ...patient,
  accept: async (trx, entries) => {
    const accepted = await accept(trx, entries)
    await contend(trx)
    return accepted
  },
})

/** Ends its attempts badly; few attempts. */
export const poisoned = defineOperation({
  name: 'intent.poison',
  route: { method: 'POST', url: '/poisoned' },
  input: Intent,
  heartbeatSeconds: 10,
  timeoutSeconds: 5,
  retry: { limit: 2, delaySeconds: 0, backoff: false },
  accept,
})

/** Slow work, of which few of a group run at once. */
export const grouped = defineOperation({
  name: 'intent.group',
  route: { method: 'POST', url: '/grouped' },
  input: Intent,
  ...patient,
  group: ({ group = '' }) => group,
  groupConcurrency: 2,
  accept,
})

/** Its handler takes no care to wait for what it sends. */
export const careless = defineOperation({
  name: 'intent.careless',
  route: { method: 'POST', url: '/careless' },
  input: Intent,
  heartbeatSeconds: 10,
  retry: { limit: 2, delaySeconds: 0, backoff: false },
  accept,
})

/** Its handler keeps the event loop busy, the first time. */
export const hogging = defineOperation({
  name: 'intent.hog',
  route: { method: 'POST', url: '/hogging' },
  input: Intent,
  ...patient,
  accept,
})

/** Fails for good as long as the harness does not permit it. */
export const faulty = defineOperation({
  name: 'intent.faulty',
  route: { method: 'POST', url: '/faulty' },
  input: Intent,
  ...patient,
  accept,
})

/** What an occurrence becomes; nobody asks for it. */
export const ticked = defineOperation({ name: 'intent.tick', input: Intent, ...patient })

/** What the intent of an occurrence is called. */
export const tokenOf = (at: Date): string => `tick ${at.toISOString()}`

/** Every second, where that is wanted. */
export const everySecond = process.env.EVERY_SECOND
  ? defineSchedule({
      name: 'every-second',
      rrule: 'FREQ=SECONDLY',
      operation: ticked,
      payload: (at) => ({ token: tokenOf(at) }),
    })
  : undefined

/** Changes two of the three counters in any order, so that two who do it meet in a deadlock now and then. */
export async function contend(trx: Transaction<Tables>): Promise<void> {
  const first = 1 + Math.floor(Math.random() * 3)
  const second = 1 + ((first + Math.floor(Math.random() * 2)) % 3)
  for (const id of [first, second]) {
    await sql`update counter set count = count + 1 where id = ${id}`.execute(trx)
  }
}
