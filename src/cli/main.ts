#!/usr/bin/env node
// This file has no static imports except two without dependencies, so that it runs in old versions of Node.js too, and
// handles signals before it loads anything.
import { nodeVersionProblem } from '../primitives/node-version.ts'
import { exitOnSignal } from './exit-on-signal.ts'

// A lookup of a host name occupies a thread until the resolver of the system gives up, which can take 20 s. With the 4
// threads of Node.js, the names of a few webhook endpoints could stop all deliveries. There are at most 100 at a time.
process.env.UV_THREADPOOL_SIZE ??= '128'
exitOnSignal()
const problem = nodeVersionProblem()
if (problem) {
  console.error(`error: ${problem}`)
  process.exit(1)
}
await import('./program.ts')
