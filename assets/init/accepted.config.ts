import { defineConfig } from 'accepted'
import * as operations from './operations.ts'

// Paths are relative to this file. The API never loads the handlers.
export default defineConfig({ operations, handlers: './handlers.ts', migrations: './migrations' })
