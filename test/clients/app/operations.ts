import { defineOperation } from 'accepted'
import type { Transaction } from 'kysely'
import Type from 'typebox'

export interface Tables {
  document: { id: string; text: string; state: 'pending' | 'ready' }
  /** What the handler of `document.render` does next. The test sets it. */
  direction: { name: string; percent: number; message: string; ending: 'succeed' | 'fail' | null }
}

/** The tables that the operations use; the tests create them. */
export const schema = `
  create table document (id text primary key, text text not null, state text not null);
  create table direction (name text primary key, percent integer not null, message text not null, ending text);`

const Text = Type.Object({ text: Type.String() }, { additionalProperties: false })
const DocumentId = Type.Object({ id: Type.String() })

async function write(trx: Transaction<Tables>, documents: { id: string; text: string }[]): Promise<void> {
  await trx
    .insertInto('document')
    .values(documents.map((document) => ({ ...document, state: 'pending' as const })))
    .onConflict((conflict) => conflict.column('id').doUpdateSet((eb) => ({ text: eb.ref('excluded.text') })))
    .execute()
}

/** Its jobs have a resource. */
export const createDocument = defineOperation({
  name: 'document.create',
  route: { method: 'POST', url: '/documents' },
  input: Text,
  payload: DocumentId,
  accept: async (trx: Transaction<Tables>, entries) => {
    await write(
      trx,
      entries.map(({ id, input }) => ({ id, text: input.text })),
    )
    return entries.map(({ id }) => ({ payload: { id }, resource: `/documents/${id}` }))
  },
})

export const replaceDocument = defineOperation({
  name: 'document.replace',
  route: { method: 'PUT', url: '/documents/:id' },
  params: DocumentId,
  input: Text,
  payload: DocumentId,
  accept: async (trx: Transaction<Tables>, entries) => {
    for (const { params, input } of entries) await write(trx, [{ id: params.id, text: input.text }])
    return entries.map(({ params }) => ({ payload: params, resource: `/documents/${params.id}` }))
  },
})

/** Its jobs have neither a resource nor a result. Its requests have no body. */
export const removeDocument = defineOperation({
  name: 'document.remove',
  route: { method: 'DELETE', url: '/documents/:id' },
  params: DocumentId,
  input: Type.Object({}),
  payload: DocumentId,
  accept: async (_trx, entries) => entries.map(({ params }) => ({ payload: params })),
})

/** Its jobs have an inline result. */
export const countWords = defineOperation({
  name: 'word.count',
  route: { method: 'POST', url: '/word-counts' },
  input: Text,
  result: Type.Object({ words: Type.Integer() }),
})

/** Its jobs always fail with a 4xx. The error message is the text of the request. */
export const checkText = defineOperation({
  name: 'text.check',
  route: { method: 'POST', url: '/checks' },
  input: Text,
})

/** Its handler reports the progress that the test sets, and runs until the test ends the job. */
export const renderDocument = defineOperation({
  name: 'document.render',
  route: { method: 'POST', url: '/renderings' },
  input: Type.Object({ name: Type.String() }, { additionalProperties: false }),
  payload: Type.Object({ name: Type.String() }),
  timeoutSeconds: 300,
  retry: { limit: 0 },
  accept: async (trx: Transaction<Tables>, entries) => {
    await write(
      trx,
      entries.map(({ id, input }) => ({ id, text: input.name })),
    )
    return entries.map(({ id, input }) => ({ payload: input, resource: `/documents/${id}` }))
  },
})

/** Its backlog has room for one job. */
export const reserve = defineOperation({
  name: 'seat.reserve',
  route: { method: 'PUT', url: '/seat' },
  input: Text,
  maxBacklog: 1,
})
