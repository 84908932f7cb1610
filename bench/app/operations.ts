import { defineOperation } from 'accepted'
import type { Transaction } from 'kysely'
import Type from 'typebox'

export interface Tables {
  note: { id: string; text: string }
  effect: { job_id: string }
}

/** The options of the operations that insert a note. */
export const note = {
  input: Type.Object({ text: Type.String({ maxLength: 200 }) }, { additionalProperties: false }),
  payload: Type.Object({ noteId: Type.String() }),
  accept: async (trx: Transaction<Tables>, entries: readonly { id: string; input: { text: string } }[]) => {
    await trx
      .insertInto('note')
      .values(entries.map(({ id, input }) => ({ id, text: input.text })))
      .execute()
    return entries.map(({ id }) => ({ payload: { noteId: id } }))
  },
}

/** A request inserts a domain row; its job does nothing. */
export const createNote = defineOperation({
  name: 'note.create',
  route: { method: 'POST', url: '/notes' },
  ...note,
})

/** Like {@link createNote}. Its worker also reports to the bench how many jobs have completed. */
export const createCounted = defineOperation({
  name: 'counted.create',
  route: { method: 'POST', url: '/counted-notes' },
  ...note,
})

/** Its job reports when `settle` starts. */
export const settlePickup = defineOperation({
  name: 'pickup.settle',
  input: Type.Object({ sequence: Type.Integer() }),
})

/** Its job reports when `perform` starts. */
export const performPickup = defineOperation({
  name: 'pickup.perform',
  input: Type.Object({ sequence: Type.Integer() }),
})

/** Its job runs a `perform` that does nothing. */
export const performNothing = defineOperation({
  name: 'nothing.perform',
  input: Type.Object({ noteId: Type.String() }),
})

/** Its job inserts a row. */
export const writeEffect = defineOperation({
  name: 'effect.write',
  input: Type.Object({ noteId: Type.String() }),
})

const wait = { input: Type.Object({ noteId: Type.String() }), retry: { limit: 0 } }

/** Its job takes {@link waitMs}. The principals of waiting jobs take turns. */
export const waitInTurn = defineOperation({ name: 'wait.turn', ...wait })

/** Like {@link waitInTurn}, but the oldest job starts first. */
export const waitByAge = defineOperation({ name: 'wait.age', ...wait, fair: false })

export const waitMs = 20
