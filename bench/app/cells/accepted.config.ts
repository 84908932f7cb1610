import { defineConfig } from 'accepted'
import * as operations from './operations.ts'

export default defineConfig({ operations, handlers: './handlers.ts' })
