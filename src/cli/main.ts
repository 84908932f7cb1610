#!/usr/bin/env node
// This file has no static imports except two without dependencies, so that it runs in old versions of Node.js too, and
// handles signals before it loads anything.
import { nodeVersionProblem } from '../primitives/node-version.ts'
import { exitOnSignal } from './exit-on-signal.ts'

exitOnSignal()
const problem = nodeVersionProblem()
if (problem) {
  console.error(`error: ${problem}`)
  process.exit(1)
}
await import('./program.ts')
