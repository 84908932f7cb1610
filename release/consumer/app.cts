// The same from CommonJS.
import accepted = require('accepted')
import perform = require('accepted/perform')
import worker = require('accepted/worker')

export = { accepted, perform, worker }
