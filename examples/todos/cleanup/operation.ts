import { defineOperation, defineSchedule } from 'accepted'
import Type from 'typebox'

/** As long as the records of jobs are kept by default (`keepSeconds`). Without its record, no client finds a file. */
const keepDays = 7

/** Deletes the app's own rows that belong to jobs of the past. Accepted deletes only the records of the jobs. */
export const deleteOldFiles = defineOperation({
  name: 'files.delete-old',
  summary: 'Delete old exports and reports of imports',
  input: Type.Object({ before: Type.String({ format: 'date-time' }) }),
  result: Type.Object({ exports: Type.Integer(), imports: Type.Integer() }),
})

export const nightlyCleanup = defineSchedule({
  name: 'nightly-cleanup',
  cron: '30 3 * * *',
  operation: deleteOldFiles,
  payload: (at) => ({ before: new Date(at.getTime() - keepDays * 86_400_000).toISOString() }),
})
