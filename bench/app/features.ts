import { defineOperation } from 'accepted'
import { note } from './operations.ts'

/** Options of an operation whose cost is measured, each on its own. */
const features = {
  unfair: { fair: false },
  abandon: { abandon: async () => {} },
  backlog: { maxBacklog: 10_000_000, maxBacklogPerPrincipal: 10_000_000 },
  limit: { limit: { concurrency: 100_000 } },
  seal: { seal: ['/noteId'] },
} as const

export type Feature = keyof typeof features

/** `note.create` with a feature. */
export const noteWith = (feature?: Feature) =>
  defineOperation({
    ...{ name: 'note.create' as const, route: { method: 'POST' as const, url: '/notes' } },
    ...note,
    ...(feature && (features[feature] as object)),
  })

/** The API and the worker of a contender have the same feature. */
export const createNote = noteWith(process.env.FEATURE as Feature | undefined)
