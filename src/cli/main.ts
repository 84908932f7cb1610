#!/usr/bin/env node
// This file has no static imports except one without dependencies, so that it runs in old versions of Node.js too, and
// handles signals before it loads anything.
import { exitOnSignal } from './exit-on-signal.ts'

const minNodeVersion = 24

exitOnSignal()
if (Number.parseInt(process.versions.node, 10) < minNodeVersion) {
  console.error(
    `error: accepted needs Node.js ${minNodeVersion}; this is ${process.versions.node}. Install Node.js ` +
      `${minNodeVersion} or later from https://nodejs.org.`,
  )
  process.exit(1)
}
await import('./program.ts')
