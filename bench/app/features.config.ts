import { defineConfig } from 'accepted'
import { createNote } from './features.ts'

export default defineConfig({
  operations: { createNote },
  handlers: './feature-handlers.ts',
  migrations: './migrations',
})
