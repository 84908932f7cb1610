import { defineOperation } from 'accepted'
import Type from 'typebox'

const Name = Type.Object({ name: Type.String() }, { additionalProperties: false })

/** Its jobs have a resource, which the app of the test serves. */
export const createNote = defineOperation({
  name: 'note.create',
  route: { method: 'POST', url: '/notes' },
  input: Type.Object({ text: Type.String() }, { additionalProperties: false }),
  accept: async (_trx, entries) => entries.map(({ id, input }) => ({ payload: input, resource: `/notes/${id}` })),
})

/** Its jobs have a result, and a path parameter. Those of the language `both` have a resource too. */
export const countWords = defineOperation({
  name: 'words.count',
  route: { method: 'PUT', url: '/texts/:language/words' },
  params: Type.Object({ language: Type.String() }),
  input: Type.Object({ text: Type.String() }, { additionalProperties: false }),
  payload: Type.Object({ text: Type.String(), language: Type.String() }),
  result: Type.Object({ words: Type.Integer(), language: Type.String() }),
  accept: async (_trx, entries) =>
    entries.map(({ input, params }) => ({
      payload: { ...input, ...params },
      ...(params.language === 'both' && { resource: '/notes/both' }),
    })),
})

/** The test performs its jobs. */
export const steered = defineOperation({
  name: 'steered',
  route: { method: 'POST', url: '/steered' },
  input: Name,
  result: Type.Object({ name: Type.String() }),
  timeoutSeconds: 300,
  retry: { limit: 0 },
})

/** Its jobs have neither a resource nor a result. No worker performs them. */
export const idle = defineOperation({
  name: 'idle',
  route: { method: 'DELETE', url: '/idle' },
  input: Type.Object({}),
  keepSeconds: 60,
})
