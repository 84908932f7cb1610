import { defineHandlers } from 'accepted/worker'
import { createNote } from './features.ts'

export default defineHandlers({ createNote }, { 'note.create': { settle: async () => {}, batchSize: 100 } })
