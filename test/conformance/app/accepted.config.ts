import { defineConfig } from 'accepted'
import * as operations from './operations.ts'

export default defineConfig({
  operations,
  handlers: './handlers.ts',
  routes: './routes.ts',
  authenticate: ({ headers }) => {
    const user = headers['x-user']?.toString() ?? 'ann'
    if (user === 'nobody') return null
    return user === 'ops' ? { principal: user, scopes: ['admin'] } : user
  },
})
