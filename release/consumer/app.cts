// The same from CommonJS.
import accepted = require('accepted')
import adapters = require('accepted/adapters')
import client = require('accepted/client')
import http = require('accepted/http')
import perform = require('accepted/perform')
import testing = require('accepted/testing')
import worker = require('accepted/worker')

export = { accepted, adapters, client, http, perform, testing, worker }
