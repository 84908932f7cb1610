import { defineConfig } from 'accepted'
import * as operations from './operations.ts'

export default defineConfig({
  operations,
  handlers: './handlers.ts',
  authenticate: ({ headers }) => {
    const principal = headers['x-principal'] || 'attacker'
    return principal === 'nobody' ? null : `${principal}`.slice(0, 100)
  },
})
