import { defineOperation } from 'accepted'
import type { Transaction } from 'kysely'
import { sql } from 'kysely'
import Type from 'typebox'

export interface Tables {
  domain: { job_id: string; token: string }
  effect: { job_id: string; token: string }
  counter: { id: number; count: number }
}

/** What a client asks for; the token is its name of the intent. */
const Intent = Type.Object({
  token: Type.String(),
  /** Makes it longer. */
  filler: Type.Optional(Type.String()),
  /** How long perform takes, in milliseconds. */
  takes: Type.Optional(Type.Integer({ minimum: 0 })),
  /** How a poison job ends its attempt. */
  poison: Type.Optional(Type.Enum(['throw', 'reject-late', 'exit', 'loop', 'allocate'])),
})

// So many attempts that what runs out of them has been charged what is not its fault.
const patient = { heartbeatSeconds: 10, retry: { limit: 30, delaySeconds: 0, backoff: false } }

async function writeDomain(
  trx: Transaction<Tables>,
  entries: readonly { id: string; input: { token: string } }[],
): Promise<void> {
  await trx
    .insertInto('domain')
    .values(entries.map(({ id, input }) => ({ job_id: id, token: input.token })))
    .execute()
}

/** Database effects only. */
export const settled = defineOperation({
  name: 'intent.settle',
  route: { method: 'POST', url: '/settled' },
  input: Intent,
  ...patient,
  accept: async (trx, entries) => {
    await writeDomain(trx, entries)
    return entries.map(({ input }) => ({ payload: input }))
  },
})

/** Slow work, and then the effect. */
export const performed = defineOperation({
  name: 'intent.perform',
  route: { method: 'POST', url: '/performed' },
  input: Intent,
  ...patient,
  accept: async (trx, entries) => {
    await writeDomain(trx, entries)
    return entries.map(({ input }) => ({ payload: input }))
  },
})

/** Changes two rows that others change in the other order, in accept and in settle. */
export const contended = defineOperation({
  name: 'intent.contend',
  route: { method: 'POST', url: '/contended' },
  input: Intent,
  ...patient,
  accept: async (trx, entries) => {
    await writeDomain(trx, entries)
    await contend(trx)
    return entries.map(({ input }) => ({ payload: input }))
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
  accept: async (trx, entries) => {
    await writeDomain(trx, entries)
    return entries.map(({ input }) => ({ payload: input }))
  },
})

/** Changes two of the three counters in any order, so that two who do it meet in a deadlock now and then. */
export async function contend(trx: Transaction<Tables>): Promise<void> {
  const first = 1 + Math.floor(Math.random() * 3)
  const second = 1 + ((first + Math.floor(Math.random() * 2)) % 3)
  for (const id of [first, second]) {
    await sql`update counter set count = count + 1 where id = ${id}`.execute(trx)
  }
}
