/**
 * Loaded first in tap's processes (see run.ts). Tap hooks itself into how modules are loaded, for coverage and for
 * mocks, in tests and in every node process these start; we use neither. With its hooks a process takes almost twice
 * the CPU time to start, for what they load does not come from the compile cache; and it is not what a user starts.
 */
import module from 'node:module'

const { registerHooks } = module
const none = { deregister() {} }
module.registerHooks = (hooks) => (new Error().stack?.includes('/@tapjs/') ? none : registerHooks(hooks))
module.syncBuiltinESMExports()
// Tap's tests load it, the processes that they start do not.
if (process.env.TAP_CHILD_ID) delete process.env.NODE_OPTIONS
