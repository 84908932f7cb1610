import { defineOperation } from 'accepted'
import Type from 'typebox'

/**
 * Rebuilds a cache that takes long to compute. Requests within five seconds share a job, and no two jobs run at the same
 * time. So there are at most one rebuild that runs and one that waits, for each principal.
 */
export const rebuildWords = defineOperation({
  name: 'words.rebuild',
  summary: 'Rebuild the list of the most frequent words',
  route: { method: 'POST', url: '/words/rebuild' },
  input: Type.Object({}, { additionalProperties: false }),
  coalesce: { key: () => 'all', forSeconds: 5, mode: 'last' },
  limit: { concurrency: 1 },
  timeoutSeconds: 600,
})
