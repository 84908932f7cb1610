/**
 * Disables the module hooks that tap installs in the tests and in every Node process that the tests start. run.ts makes
 * the processes of tap load this file first. Tap uses the hooks for coverage and mocks, and these tests use neither.
 * Hooked modules bypass the compile cache, so a process needs almost twice the CPU time to start. Without the hooks,
 * the started processes also run like the processes of users.
 */
import module from 'node:module'

const { registerHooks } = module
const noHooks = { deregister() {} }
module.registerHooks = (hooks) => (new Error().stack?.includes('/@tapjs/') ? noHooks : registerHooks(hooks))
module.syncBuiltinESMExports()
// Only test files need this file. The processes that a test file starts load the bundles of bundles.ts and nothing else.
if (process.env.TAP_CHILD_ID) process.env.NODE_OPTIONS = `--import=${process.env.ACCEPTED_TEST_BUNDLES}`
