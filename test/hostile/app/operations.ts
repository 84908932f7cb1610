import { defineOperation } from 'accepted'
import Type from 'typebox'

const noRetry = { limit: 0 }

/** Ends at once. Its result is its input. */
export const quick = defineOperation({
  name: 'quick.run',
  summary: 'End at once',
  route: { method: 'POST', url: '/quick' },
  input: Type.Object({ text: Type.String(), extra: Type.Optional(Type.Unknown()) }),
  result: Type.Object({ text: Type.String() }),
  retry: noRetry,
})

/** Has path parameters, and requires an Idempotency-Key. */
export const keyed = defineOperation({
  name: 'keyed.put',
  summary: 'Require an Idempotency-Key',
  route: { method: 'PUT', url: '/things/:number/:name' },
  params: Type.Object({ number: Type.Integer(), name: Type.String() }),
  input: Type.Object({}),
  payload: Type.Object({ name: Type.String() }),
  accept: async (_trx, entries) => entries.map(({ params }) => ({ payload: { name: params.name } })),
  idempotencyKey: 'required',
  retry: noRetry,
})

/** Has a large result. */
export const bulk = defineOperation({
  name: 'bulk.make',
  summary: 'Make a large result',
  route: { method: 'POST', url: '/bulk' },
  input: Type.Object({
    bytes: Type.Integer({ minimum: 0, maximum: 4_000_000 }),
    content: Type.Enum(['random', 'repeated', 'nested']),
  }),
  result: Type.Unknown(),
  retry: noRetry,
})

/** Fails with the text of its input. */
export const failing = defineOperation({
  name: 'failing.run',
  summary: 'Fail',
  route: { method: 'POST', url: '/failing' },
  input: Type.Object({ text: Type.String(), isDeclared: Type.Boolean() }),
  retry: { limit: 2, delaySeconds: 0, backoff: false },
})

/** Runs for a while and reports its progress. */
export const slow = defineOperation({
  name: 'slow.run',
  summary: 'Run for a while',
  route: { method: 'POST', url: '/slow' },
  input: Type.Object({ steps: Type.Integer({ minimum: 1, maximum: 100 }) }),
  retry: noRetry,
})
