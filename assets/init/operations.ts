import { defineOperation } from 'accepted'
import type { Transaction } from 'kysely'
import Type from 'typebox'
import type { Tables } from './tables.ts'

export const countWords = defineOperation({
  name: 'document.count',
  summary: 'Count the words of a document',
  route: { method: 'POST', url: '/documents' },
  input: Type.Object({ text: Type.String({ minLength: 1 }) }), // the request body
  payload: Type.Object({ documentId: Type.String(), text: Type.String() }), // what the worker gets
  result: Type.Object({ words: Type.Integer() }), // what the client gets as the result

  // The API calls accept in the transaction of the request. The document and the job commit together.
  accept: async (trx: Transaction<Tables>, entries) => {
    const rows = entries.map(({ id, input }) => ({ id, body: input.text, words: null }))
    await trx.insertInto('document').values(rows).execute()
    return entries.map(({ id, input }) => ({ payload: { documentId: id, text: input.text } }))
  },
})
