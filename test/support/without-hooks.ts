/**
 * Disables tap's module hooks; run.ts loads this file first in tap's processes. Tap installs the hooks, for coverage
 * and mocks, in tests and in every Node process they start. These tests use neither. With the hooks, a process needs
 * almost twice the CPU time to start, because hooked modules bypass the compile cache. It also differs from what a user
 * runs.
 */
import module from 'node:module'

const { registerHooks } = module
const noHooks = { deregister() {} }
module.registerHooks = (hooks) => (new Error().stack?.includes('/@tapjs/') ? noHooks : registerHooks(hooks))
module.syncBuiltinESMExports()
// Test files need this file; the processes that they start do not.
if (process.env.TAP_CHILD_ID) delete process.env.NODE_OPTIONS
